// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {StakingBeginUnbonding} from "./beginUnbonding.t.sol";
import {StakingBurn} from "./burn.t.sol";
import {StakingCreditPool} from "./creditPool.t.sol";
import {StakingDelegate} from "./delegate.t.sol";
import {StakingFreeze} from "./freeze.t.sol";
import {StakingSetCommission} from "./setCommission.t.sol";
import {StakingSlash} from "./slash.t.sol";
import {StakingStake} from "./stake.t.sol";
import {StakingUndelegate} from "./undelegate.t.sol";
import {StakingUnfreeze} from "./unfreeze.t.sol";
import {StakingWithdraw} from "./withdraw.t.sol";
import {StakingWithdrawDelegation} from "./withdrawDelegation.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract StakingTest is
    StakingBeginUnbonding,
    StakingBurn,
    StakingCreditPool,
    StakingDelegate,
    StakingFreeze,
    StakingSetCommission,
    StakingSlash,
    StakingStake,
    StakingUndelegate,
    StakingUnfreeze,
    StakingWithdraw,
    StakingWithdrawDelegation
{}
