// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingFreeze is Network {
    function testFuzz_freeze__never_more_than_is_slashable(uint96 a, uint96 b) public {
        _stake(owner, STAKE);
        vm.startPrank(address(disputes));
        uint96 first = staking.freeze(owner, a);
        uint96 second = staking.freeze(owner, b);
        assertLe(uint256(first) + second, STAKE);
        assertEq(staking.accountOf(owner).frozen, uint256(first) + second);
        assertEq(staking.openDisputes(owner), 2);
        vm.stopPrank();
    }

    function test_freeze__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IStaking.NotAllowed.selector, address(this)));
        staking.freeze(owner, 1);
    }
}
