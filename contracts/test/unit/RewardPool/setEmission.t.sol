// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract RewardPoolSetEmission is Network {
    function test_setEmission__by_governance__within_its_bound() public {
        _govern(address(rewards), abi.encodeCall(rewards.setEmission, (7 ether)));
        assertEq(rewards.emission(), 7 ether);
        uint96 limit = rewards.MAX_EMISSION();
        vm.prank(address(timelock));
        vm.expectRevert(abi.encodeWithSelector(IRewardPool.EmissionTooHigh.selector, limit + 1, limit));
        rewards.setEmission(limit + 1);
    }
}
