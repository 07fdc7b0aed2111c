// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ProviderRegistryFinishRotation} from "./finishRotation.t.sol";
import {ProviderRegistryIsServing} from "./isServing.t.sol";
import {ProviderRegistryJail} from "./jail.t.sol";
import {ProviderRegistryMakeOffer} from "./makeOffer.t.sol";
import {ProviderRegistryRegister} from "./register.t.sol";
import {ProviderRegistryRegisterGpu} from "./registerGpu.t.sol";
import {ProviderRegistryRetireGpu} from "./retireGpu.t.sol";
import {ProviderRegistrySetEndpoint} from "./setEndpoint.t.sol";
import {ProviderRegistryStartRotation} from "./startRotation.t.sol";
import {ProviderRegistryUnjail} from "./unjail.t.sol";
import {ProviderRegistryWithdrawOffer} from "./withdrawOffer.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract ProviderRegistryTest is
    ProviderRegistryFinishRotation,
    ProviderRegistryIsServing,
    ProviderRegistryJail,
    ProviderRegistryMakeOffer,
    ProviderRegistryRegister,
    ProviderRegistryRegisterGpu,
    ProviderRegistryRetireGpu,
    ProviderRegistrySetEndpoint,
    ProviderRegistryStartRotation,
    ProviderRegistryUnjail,
    ProviderRegistryWithdrawOffer
{}
