// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ProviderRegistryRegisterGpu} from "./registerGpu.t.sol";
import {ProviderRegistryIsServing} from "./isServing.t.sol";
import {ProviderRegistryJail} from "./jail.t.sol";
import {ProviderRegistryMakeOffer} from "./makeOffer.t.sol";
import {ProviderRegistryWithdrawOffer} from "./withdrawOffer.t.sol";
import {ProviderRegistryRegister} from "./register.t.sol";
import {ProviderRegistryRotation} from "./rotation.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract ProviderRegistryTest is
    ProviderRegistryRegisterGpu,
    ProviderRegistryIsServing,
    ProviderRegistryJail,
    ProviderRegistryMakeOffer,
    ProviderRegistryWithdrawOffer,
    ProviderRegistryRegister,
    ProviderRegistryRotation
{}
